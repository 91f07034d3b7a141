import type { ReactNode } from "react";
import type { Role } from "../api/types";
import { useMay } from "./session";

/** Shows its children to users with at least a role. The server enforces permissions. */
export function For({ role, children }: { role: Role; children: ReactNode }): ReactNode {
  return useMay(role) ? children : null;
}
