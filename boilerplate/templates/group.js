// Sorting and searching of the cohort table; the table is complete without either.
const cohort = document.getElementById('cohort-table');

function key(row, column) {
  const text = row.cells[column].textContent.trim().replace('−', '-');
  const value = parseFloat(text);
  return Number.isNaN(value) ? text : value;
}

function compare(a, b) {
  // what has no value ("–") comes last, whichever way the column is sorted
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  if (typeof a === typeof b) return a.localeCompare(b, 'en', { numeric: true });
  return typeof a === 'number' ? -1 : 1;
}

for (const [column, head] of [...cohort.tHead.rows[0].cells].entries()) {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'sort';
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener('click', () => {
    const up = head.getAttribute('aria-sort') !== 'ascending';
    for (const other of cohort.tHead.rows[0].cells) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const body = cohort.tBodies[0];
    const rows = [...body.rows].map((row) => [key(row, column), row]);
    rows.sort(([a], [b]) => (up || typeof a !== typeof b ? compare(a, b) : compare(b, a)));
    body.append(...rows.map(([, row]) => row));
  });
}

const search = document.getElementById('search');
search.parentElement.hidden = false;
search.addEventListener('input', () => {
  const wanted = search.value.trim().toLowerCase();
  let shown = 0;
  for (const row of cohort.tBodies[0].rows) {
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
    shown += Number(!row.hidden);
  }
  document.getElementById('shown').textContent = wanted ? `${shown} shown` : '';
});
