"""``python -m seg_det COMMAND ...``: the commands by their names."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from seg_det.commands import cli, pointing

CONF = Path(__file__).resolve().parents[1] / "conf"
COMMANDS = {"doctor": "check a data set before training on it"}  # a file in commands/ and one in conf/ have the name


def main(words: list[str]) -> None:
    """Run the command that ``words`` begin with on the others; without one, say which there are."""
    if not words or words[0] not in COMMANDS:
        listed = "\n".join(f"  {name:10}{about}" for name, about in COMMANDS.items())
        usage = f"usage: python -m seg_det COMMAND KEY=VALUE ...\n\n{listed}\n\npython -m seg_det COMMAND --help shows its keys"
        if words and words[0] not in ("-h", "--help"):
            sys.exit(f"error: there is no command {words[0]!r}\n{usage}")
        print(usage)
        return
    name, *rest = words
    sys.argv[1:] = pointing.point_at_data(rest)

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)
    def command(config: DictConfig) -> None:
        cli.run(name, config)

    command()


if __name__ == "__main__":
    main(sys.argv[1:])
