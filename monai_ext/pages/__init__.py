"""The look of figures and of HTML pages; knows no kind of task."""
