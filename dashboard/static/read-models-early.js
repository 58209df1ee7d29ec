import { early } from "./early.js";
import { prepare } from "./read-models.js";

early(prepare);
