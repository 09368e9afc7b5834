// The page: its views by address.

import { createView } from "./create.js";
import { modelView } from "./model.js";
import { modelsView } from "./models.js";
import { go, start } from "./shared/shell.js";

start({
  title: "Likeness",
  lead: "Make new pictures of what you love, from a handful of your own.",
  view({ path: [place, id], config: { limits }, signal }) {
    if (place === "new") return createView({ limits, signal, go });
    if (place === "models" && id) return modelView({ model: id, limits, signal, go });
    return modelsView({ limits, signal });
  },
});
