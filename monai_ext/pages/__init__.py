"""The style of figures and HTML pages, independent of the kind of task."""
