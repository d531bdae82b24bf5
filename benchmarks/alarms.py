"""How often scans like those of the training raise an alarm: on random heads that are new.

The threshold is set so that of the training heads, each judged without it, at most 5 % pass. Here
others of the same kind are judged, scanned by a random protocol and degraded as in training. A
score is kept in FOLDER and not computed again; prints a sentence.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from outliers import seen
from scipy.stats import binomtest

from demist_app.model.bundle import load_bundle
from demist_app.model.outliers import judge
from demist_app.model.predictor import load_predictor
from demist_app.training.examination import scan
from demist_app.training.examples import read_examples
from demist_app.training.phantoms import write_head

SEED = 5000  # no training has it


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog='python benchmarks/alarms.py')
    parser.add_argument('bundle', type=Path)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--heads', type=int, default=60)
    options = parser.parse_args()
    bundle = load_bundle(options.bundle)
    known, predictor = bundle.metadata['outliers'], load_predictor(bundle)
    path = options.folder / f'{bundle.name}-{bundle.sha256[:12]}.json'
    options.folder.mkdir(parents=True, exist_ok=True)
    scores = json.loads(path.read_text('utf-8')) if path.exists() else []
    for number in range(len(scores), options.heads):
        with TemporaryDirectory(dir=options.folder) as store:
            write_head(Path(store), SEED, number, 1, 1.0)
            (example,) = read_examples(Path(store))
            images, _, mask = scan(example, 0, SEED)
            scores.append(judge(seen(predictor, images, mask), known).score)
        aside = path.with_suffix('.part')
        aside.write_text(json.dumps(scores) + '\n', 'utf-8')
        aside.replace(path)
    scores = scores[: options.heads]
    alarms = sum(score > known['threshold'] for score in scores)
    interval = binomtest(alarms, len(scores)).proportion_ci(method='exact')
    print(
        f'{alarms} of {len(scores)} new random heads are above {known["threshold"]:.2f}: '
        f'{alarms / len(scores):.1%} (95 % interval {interval.low:.1%} to {interval.high:.1%}, '
        f'Clopper and Pearson); aim: at most {known["false_alarm_rate"]:.1%}'
    )


if __name__ == '__main__':
    main()
