"""Built-in metrics of prefzoo. The registry imports every file here when it is first read."""
