import { early } from "./early.js";
import { prepare } from "./operations.js";

early(prepare);
