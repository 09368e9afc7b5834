// A table that is wider than the page scrolls. Its container gets the keyboard focus, so that keys scroll it.
document$.subscribe(() => {
  for (const container of document.querySelectorAll(".md-typeset__scrollwrap")) {
    container.tabIndex = 0;
  }
});
