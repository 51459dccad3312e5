"""Write a run as one HTML page. Charts are drawn here as SVG, and untrusted text is escaped."""
