// The theme adds these elements after the page is loaded, and again for each page.
new MutationObserver(() => {
  // A table that is wider than the page scrolls: with the keyboard focus, keys scroll it too
  for (const container of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) {
    container.tabIndex = 0;
  }
  // The buttons of each code block are a landmark, which needs a name of its own
  document.querySelectorAll(".md-code__nav").forEach((buttons, number) => {
    buttons.ariaLabel ??= `Code block ${number + 1}`;
  });
}).observe(document.body, { childList: true, subtree: true });
