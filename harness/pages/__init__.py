"""Pages of records and studies in Markdown, CSV, LaTeX and HTML."""
