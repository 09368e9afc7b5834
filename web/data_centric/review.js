import { h } from "./shared/dom.js";

/** Returns the words at the classes of a review task, by the class's name. */
export function marks(review) {
  const found = new Map();
  for (const [name, mark] of [[review?.given, "given"], [review?.suggested, "suggested"]])
    if (name !== undefined && name !== null) found.set(name, [...(found.get(name) ?? []), mark]);
  return found;
}

/** Returns the reasons for the review of an item, with its nearest neighbours. */
export function reasons({ given, suggested, reason, neighbours = [] }) {
  return h("section", { class: "card reasons", "aria-labelledby": "reasons" },
    h("h2", { id: "reasons" }, "Is the label right?"),
    h("dl", { class: "pair" },
      h("div", {}, h("dt", {}, "Given label"), h("dd", {}, given ?? "none")),
      h("div", {}, h("dt", {}, "Suggested label"), h("dd", {}, suggested ?? "none"))),
    h("p", {}, reason),
    neighbours.length > 0 && [
      h("h3", {}, "Most similar items and their labels"),
      h("ul", { class: "neighbours" }, neighbours.map(({ url, label }) =>
        h("li", {}, h("figure", {}, h("img", { crossOrigin: "anonymous", src: url, alt: "" }), h("figcaption", {}, label))))),
    ]);
}
