"""The catalogue of losses: what each is, needs and is made for, as text, Markdown, JSON or HTML. It loads no torch."""
