"""The HTTP interface as an OpenAPI document, and the page that shows it."""
