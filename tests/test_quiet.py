"""Which lines of libraries are kept off the terminal: those that are listed, and no others."""

import logging
import os
import warnings

from seg_det import quiet

LINES = (
    "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"
    "I0000 00:00:1796052723.741579   20562 port.cc:153] oneDNN custom operations are on.\n"
    "[cpuinfo_utils.cpp:71] Reading file /sys/devices/soc0/image_version\n"
    "E0000 00:00:1796052723.741579   20562 port.cc:153] an error\n"
    "ERROR: no kernel\n"
)


def test_lines_of_compiled_code(capfd):
    with quiet.quiet_loading():
        os.write(2, LINES.encode())
    assert capfd.readouterr().err.splitlines() == LINES.splitlines()[3:]


def test_they_are_shown_where_loading_fails(capfd):
    try:
        with quiet.quiet_loading():
            os.write(2, b"the reason\n")
            raise OSError
    except OSError:
        os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "the reason\nafterwards\n"


def test_warnings_and_loggers(monkeypatch):
    for name in quiet.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    levels = {name: logging.getLogger(name).level for name in quiet.LOGGERS}
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            quiet.quieten()
            warnings.warn("The 'val_dataloader' does not have many workers which may be a bottleneck.", stacklevel=1)
            warnings.warn("of the user's data", stacklevel=1)
        assert [str(one.message) for one in seen] == ["of the user's data"]
        assert logging.getLogger("torchao").isEnabledFor(logging.ERROR)
        assert not logging.getLogger("torchao.kernel").isEnabledFor(logging.WARNING)
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for name in quiet.ENVIRONMENT:
            os.environ.pop(name, None)
