"""Write the JSON Schema that is shipped: ``python -m erasepro_convert.recipe``."""

from erasepro_convert.library import shipped_root
from erasepro_convert.recipe.schema import SCHEMA_FILE, schema_json

(shipped_root() / SCHEMA_FILE).write_text(schema_json(), encoding="utf-8")
