'use strict';
// Everything works without this script; it adds the copy buttons and marks the section in view.
const live = document.getElementById('live');

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement('textarea');
    area.value = text;
    area.style.position = 'fixed';
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
}

for (const button of document.querySelectorAll('button[data-copy]')) {
  button.hidden = false;
  button.addEventListener('click', async () => {
    await copy(document.getElementById(button.dataset.copy).textContent);
    const label = button.textContent;
    button.textContent = 'Copied';
    live.textContent = 'Copied to the clipboard';
    setTimeout(() => { button.textContent = label; live.textContent = ''; }, 1600);
  });
}

const links = new Map(
  [...document.querySelectorAll('nav a')].map((link) => [link.hash.slice(1), link]),
);
const observer = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute('aria-current');
    links.get(entry.target.id).setAttribute('aria-current', 'true');
  }
}, { rootMargin: '-15% 0px -75% 0px' });
for (const id of links.keys()) observer.observe(document.getElementById(id));

addEventListener('beforeprint', () => {
  for (const part of document.querySelectorAll('details')) part.open = true;
});
