import { $ } from "./dom.js"

// readOnly says that the token is a reader's: what changes something is not offered.
export const readOnly = () => !$("read-only").hidden
