"""Pages: what is shown of records and studies, in Markdown, CSV, LaTeX and HTML."""
