"""All checks of a data set: the quick ones, which need no pixels, and with them those that look at every image."""

from __future__ import annotations

import logging

from seg_det.doctor.duplicates import check_classes_of_pictures, check_identity, check_pictures
from seg_det.doctor.findings import NOTE, Checks, Found, Scope, merged
from seg_det.doctor.frames import check_frames
from seg_det.doctor.images import check_images
from seg_det.doctor.looks import look_at_all
from seg_det.doctor.sentences import check_sentences, fault_of
from seg_det.run_log import LOG

log = logging.getLogger(__name__)
UNCHECKED = "leak-unchecked"
MOST_READ, MOST_FOUND = 5, 4  # lines before a training, of the readers and of the quick checks
FOLLOWING = "python -m seg_det doctor with the arguments of this command lists all"


def examine_quickly(scope: Scope, checks: Checks) -> list[Found]:
    """What can be found without the pixels of all images, in less than two seconds for 100,000 images; the gravest first."""
    return merged([one for check in (check_identity, check_frames, *checks.quick) for one in check(scope)])


def examine(scope: Scope, checks: Checks) -> list[Found]:
    """Everything: what the readers said, the quick checks, and a look at every image and mask; the gravest first."""
    listed = [one for check in (check_sentences, check_identity, check_frames, *checks.quick) for one in check(scope)]
    paths = (record.path for split in scope.splits for record in split.source.records)
    looks = look_at_all(paths, "images")
    listed += check_images(scope, looks)
    pictures = list(check_pictures(scope, looks))
    listed = [one for one in listed if one.fault not in ("leak-bytes", UNCHECKED)]  # found again, completely
    listed += pictures
    if checks.labelled_images:
        listed += check_classes_of_pictures(scope, looks)
    listed += [one for check in checks.thorough for one in check(scope)]
    return merged(listed)


def warn(scope: Scope, checks: Checks) -> None:
    """Log what is wrong or doubtful with the data before hours are spent on a training: at most ten lines.

    First what the readers said, then one line for each error and warning of the quick checks, less what was said already.
    The run's log gets all lines.
    """
    sentences = list(dict.fromkeys(sentence for split in scope.splits for sentence in split.source.problems))
    said = {fault_of(sentence, "") for sentence in sentences[:MOST_READ]}
    faults = [one for one in examine_quickly(scope, checks) if _is_told(one) and one.fault not in said]
    for line in [*sentences[:MOST_READ], *map(_line, faults[:MOST_FOUND])]:
        log.warning("%s", line)
    for line in [*sentences[MOST_READ:], *map(_line, faults[MOST_FOUND:])]:
        LOG.keep(line)
    left = len(sentences[MOST_READ:]) + sum(one.count for one in faults[MOST_FOUND:])
    if left or faults:
        log.warning("%s%s", f"{left:,} more problem{'s' * (left > 1)}; " if left else "", FOLLOWING)


def _is_told(one: Found) -> bool:
    return one.severity != NOTE or one.fault == UNCHECKED


def _line(one: Found) -> str:
    more = f" (and {one.count - 1:,} more)" if one.count > 1 else ""
    return f"{one.fault}: {next(one.items(1)).sentence}{more}"
