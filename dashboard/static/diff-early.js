import { early } from "./early.js";
import { prepare } from "./diff.js";

early(prepare);
