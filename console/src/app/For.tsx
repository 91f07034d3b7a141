import type { ReactNode } from "react";
import type { Role } from "../api/types";
import { useMay } from "./session";

/** What only users of a role, or a greater one, are shown; the server decides what they may do. */
export function For({ role, children }: { role: Role; children: ReactNode }): ReactNode {
  return useMay(role) ? children : null;
}
