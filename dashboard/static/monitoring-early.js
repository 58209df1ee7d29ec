import { early } from "./early.js";
import { prepare } from "./monitoring.js";

early(prepare);
