"""prefzoo: which preference loss should I use for my model and my data, how sure is that, and what does it cost?"""

__version__ = "0.1.0"
