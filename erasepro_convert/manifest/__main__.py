"""Write the JSON Schema that is shipped: ``python -m erasepro_convert.manifest``."""

from pathlib import Path

from erasepro_convert.manifest import schema_json

Path(__file__).with_name("manifest.schema.json").write_text(schema_json(), encoding="utf-8")
