"""Write the JSON Schema that is shipped: ``python -m erasepro_convert.release``."""

from pathlib import Path

from erasepro_convert.release.evidence_model import schema_json

Path(__file__).with_name("evidence.schema.json").write_text(schema_json(), encoding="utf-8")
