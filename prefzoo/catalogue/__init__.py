"""The catalogue of losses: what each is, needs and is for, as text, Markdown, JSON and HTML. It imports no torch."""
