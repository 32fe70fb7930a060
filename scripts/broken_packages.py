"""Which pinned packages an environment lacks, has in another version, or has in part.

pip calls a package installed as soon as its metadata lie on disk, so a set-up that was killed in
the middle of one would never be mended by running pip again. This looks at the files.

    python broken_packages.py requirements/cpu.txt requirements/dev.txt

Prints one pin (`name==version`) per line, nothing when all is whole.
"""

import sys
from importlib import metadata
from pathlib import Path


def pins(requirements: Path) -> list[str]:
    """The `name==version` lines of a requirements file, comments left out."""
    lines = (line.partition("#")[0].strip() for line in requirements.read_text().splitlines())
    return [line for line in lines if line]


def is_whole(pin: str) -> bool:
    """Whether the pinned version is installed with every file that it recorded."""
    name, _, version = pin.partition("==")
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    files = distribution.files  # None when pip was stopped before it wrote the record
    if distribution.version != version or not files:
        return False
    return all(file.suffix == ".pyc" or Path(str(file.locate())).exists() for file in files)


def main(requirement_files: list[str]) -> None:
    """Print the pins that have to be installed again."""
    for file in requirement_files:
        for pin in pins(Path(file)):
            if not is_whole(pin):
                print(pin)


if __name__ == "__main__":
    main(sys.argv[1:])
