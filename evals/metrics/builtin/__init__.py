"""The metrics that come with prefzoo. Every file here is imported when the registry is first read."""
