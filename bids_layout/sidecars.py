"""JSON sidecars under BIDS' inheritance principle, read one image at a time."""

import json
from pathlib import Path
from typing import Any


class Sidecars:
    """The sidecars of one data set; listings of shared folders are kept.

    Parameters
    ----------
    root
        Root of the data set: inheritance stops there.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listings: dict[Path, list[Path]] = {}

    def read(self, image: Path) -> tuple[dict[str, Any], list[str]]:
        """Merge the sidecars that apply to an image, the nearest last.

        A sidecar applies if its suffix is the image's and all its entities are among the
        image's (BIDS specification, "The Inheritance Principle").

        Parameters
        ----------
        image
            An image below the root.

        Returns
        -------
        metadata : dict
            Merged fields; empty without a sidecar.
        notes : list of str
            One sentence for each sidecar that could not be read and was left out.
        """
        metadata: dict[str, Any] = {}
        notes = []
        for sidecar in self._applicable(image, '.json'):
            if not sidecar.is_file():  # a pipe or a device would never end
                notes.append(f'{sidecar.name} is no file, or a link to none; it was left out')
                continue
            try:
                fields = json.loads(sidecar.read_text(encoding='utf-8-sig'))
            except (OSError, ValueError, RecursionError) as error:
                notes.append(f'{sidecar.name} is not readable as JSON ({error}); it was left out')
                continue
            if isinstance(fields, dict):
                metadata.update(fields)
            else:
                notes.append(f'{sidecar.name} does not hold a JSON object; it was left out')
        return metadata, notes

    def lookup_table(self, image: Path) -> Path | None:
        """Find the TSV table that names the labels of a segmentation, the nearest one."""
        tables = self._applicable(image, '.tsv')
        return tables[-1] if tables else None

    def _applicable(self, image: Path, extension: str) -> list[Path]:
        parts = image.name.split('.')[0].split('_')
        folders = [image.parent, *image.parent.parents]
        found = []
        for folder in reversed(folders[: folders.index(self._root) + 1]):
            candidates = [
                path
                for path in self._list(folder)
                if path.suffix == extension
                and path.stem.split('_')[-1] == parts[-1]
                and set(path.stem.split('_')) <= set(parts)
            ]
            found += sorted(candidates, key=lambda path: len(path.stem.split('_')))
        return found

    def _list(self, folder: Path) -> list[Path]:
        if folder not in self._listings:
            self._listings[folder] = [
                path for path in folder.iterdir() if path.suffix in ('.json', '.tsv')
            ]
        return self._listings[folder]
