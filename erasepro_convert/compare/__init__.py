"""One recipe by several methods: each converted, drawn and judged beside the others."""
