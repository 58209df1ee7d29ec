import { early } from "./early.js";
import { prepare } from "./replay.js";

early(prepare);
