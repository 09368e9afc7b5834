// The page: its views by address.

import * as outbox from "./outbox.js";
import { runsView } from "./runs.js";
import { start } from "./shared/shell.js";
import { taskView } from "./task.js";

start({
  title: "Labeling",
  lead: "Label pictures and texts. Your labels train a model.",
  view({ path: [place, run], signal }) {
    return place === "runs" && run ? taskView({ name: run, signal }) : runsView({ signal });
  },
  ended: () => (outbox.unsent() ? "Your last answer is kept and will be sent then." : ""),
});
