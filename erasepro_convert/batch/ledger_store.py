"""Where a batch keeps its records: beside its outputs, or locally if outputs go to a store."""

from pathlib import Path

from erasepro_convert.batch.inputs import PassedOver
from erasepro_convert.batch.ledger import LEDGER, Ledger
from erasepro_convert.batch.summary import SUMMARY, write_summary
from erasepro_convert.conversion.preflight import require_store
from erasepro_convert.errors import UsageError
from erasepro_convert.storage.listing import exists
from erasepro_convert.storage.location import Location
from erasepro_convert.storage.remote_file import read_bytes
from erasepro_convert.storage.upload import uploading


def open_ledger(outputs: Location, records: Path | None) -> Ledger:
    """Open the ledger of a batch; fetch the store's copy of it where there is no local one.

    A store cannot append to an object, so that ``records`` must name a local folder then.
    Raises UsageError where it is missing or not needed, and for a place that cannot be written to.
    """
    if isinstance(outputs, Path):
        if records:
            raise UsageError("--records is for a DIR that is a URL: the record lies in DIR")
        outputs.mkdir(parents=True, exist_ok=True)
        return Ledger(outputs)
    if not records:
        raise UsageError("DIR is a URL: --records FOLDER says where the record is kept meanwhile")
    require_store(outputs)
    records.mkdir(parents=True, exist_ok=True)
    if not (records / LEDGER).exists() and exists(outputs / LEDGER):
        (records / LEDGER).write_bytes(read_bytes(outputs / LEDGER))
    return Ledger(records)


def publish_records(ledger: Ledger, outputs: Location, passed_over: PassedOver) -> None:
    """Write the page beside the ledger, and copy both to a store if the outputs are there.

    ``passed_over`` is what this run found and did not take for a checkpoint.

    Raises OSError or StorageError where a file cannot be written.
    """
    ledger.refresh()  # another batch may have been at work beside this one
    folder = ledger.path.parent
    write_summary(folder, ledger.latest, passed_over)
    if not isinstance(outputs, Path):
        for name in (LEDGER, SUMMARY):
            with uploading(outputs / name) as upload:
                upload.write((folder / name).read_bytes())
                upload.close()
                upload.commit()
