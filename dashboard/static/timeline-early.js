import { early } from "./early.js";
import { prepare } from "./timeline.js";

early(prepare);
