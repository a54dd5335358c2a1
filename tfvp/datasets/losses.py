"""What is said and done about raw files that cannot be read, or only in part."""

from tfvp.errors import UserError

SHOWN = 3  # files that a sentence names
LISTED = 20  # files that an error names


def sentences(dataset) -> list[str]:
    """What there is to say of a prepared `FileDataset`, each as one sentence."""
    manifest = dataset.store.manifest
    total, result = len(manifest["sources"]), []
    for kind, words in (("unreadable", "cannot be read and are skipped"), ("excluded", "are skipped")):
        if files := manifest.get(kind):
            result.append(f"{len(files)} of {total} files of {dataset.name} {words}: {_some(files, SHOWN)}")
    if files := manifest.get("truncated"):
        result.append(
            f"{len(files)} of {total} files of {dataset.name} end early and are used as far as they can be read:"
            f" {_some(files, SHOWN)}; data.truncated=skip leaves them out"
        )
    return result


def check(dataset) -> None:
    """Refuses a prepared `FileDataset` that has lost too many files.

    One file may be lost in any case, and more up to the share `data.max_damaged` of all.

    Raises:
        UserError: more are lost; the message names them, and says how to go on.
    """
    manifest, most = dataset.store.manifest, dataset.settings.max_damaged
    lost, total = manifest["unreadable"], len(manifest["sources"])
    # A file that holds several sources has one reason for all of them.
    if len(set(lost.values())) > 1 and len(lost) > most * total:
        share = len(lost) / total
        enough = -(-len(lost) * 1000 // total) / 1000
        raise UserError(
            f"{len(lost)} of {total} files of {dataset.name} cannot be read, {share:.1%}, which is more than"
            f" data.max_damaged={most:g} allows: {_some(lost, LISTED)}. What could be read is kept; get these files"
            f" again, or set data.max_damaged={enough:g} to go on without them"
        )


def _some(files, most):
    reasons = list(dict.fromkeys(files.values()))
    return "; ".join(reasons[:most]) + (f"; and {len(reasons) - most} more" if len(reasons) > most else "")
