/** The session. A link's token or a sign-in starts it; the page checks it whenever it becomes visible. */

import { createContext, useContext } from "react";
import { ApiError, connection, get, post } from "../api/client";
import type { Role, Session } from "../api/types";

export const SessionContext = createContext<Session | null>(null);

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (!session) throw new Error("there is no session here");
  return session;
}

/** Roles, weakest first. Each includes the permissions of the roles before it. */
export const ROLES: readonly Role[] = ["viewer", "auditor", "operator", "admin"];

export function atLeast(session: Session, role: Role): boolean {
  return ROLES.indexOf(session.role) >= ROLES.indexOf(role);
}

export function useMay(role: Role): boolean {
  const session = useContext(SessionContext);
  return !session || atLeast(session, role);
}

/** Takes the token out of the address, so that neither history nor a copied link has it. */
export function tokenFromAddress(): string | null {
  const token = new URLSearchParams(window.location.hash.slice(1)).get("t");
  if (token !== null) window.history.replaceState(null, "", window.location.pathname + window.location.search);
  return token;
}

/** Begins or continues a session; throws if the link is invalid and there is no older session. */
export async function begin(token: string | null): Promise<Session | null> {
  let refused: ApiError | null = null;
  if (token !== null) {
    try {
      await post("session", { token });
    } catch (error) {
      if (!(error instanceof ApiError) || error.status === 0) throw error;
      refused = error;
    }
  }
  const session = await current();
  if (!session && refused) throw refused;
  return session;
}

export async function current(): Promise<Session | null> {
  try {
    return await get<Session>("session");
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) {
      connection.report("no-session");
      return null;
    }
    throw error;
  }
}
