/** Calls of the server: errors with their request id, cancellation, and ended sessions. */

const ROOT = "/api/v1/";

/** A refused call, or no answer at all (status 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly requestId: string | null = null,
  ) {
    super(message);
  }
}

export type Connection = "starting" | "ok" | "no-session" | "unreachable";

/** Whether the server answers and knows this browser; pages show it and repeat their calls when it returns. */
class ConnectionState {
  private state: Connection = "starting";
  private generation = 0;
  private readonly listeners = new Set<() => void>();

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };
  readonly current = (): Connection => this.state;
  /** Grows each time the connection returns, so that pages repeat failed calls. */
  readonly returns = (): number => this.generation;

  report(next: Connection): void {
    if (next === this.state) return;
    if (next === "ok" && this.state !== "starting") this.generation += 1;
    this.state = next;
    this.listeners.forEach((listener) => listener());
  }
}

export const connection = new ConnectionState();

export type Query = Record<string, string | number | boolean | null | undefined>;

export function address(path: string, query: Query = {}): string {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") parts.set(name, String(value));
  }
  const text = parts.toString();
  return ROOT + path + (text && `?${text}`);
}

/** Milliseconds until a read times out. */
export const MAX_WAIT = 60_000;

export async function get<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), MAX_WAIT);
  try {
    const either = signal ? AbortSignal.any([signal, late.signal]) : late.signal;
    return (await answer(await send(address(path, query), { signal: either }))) as T;
  } catch (error) {
    if (!late.signal.aborted || signal?.aborted) throw error;
    throw new ApiError(0, "Timeout", "The server did not answer within a minute.");
  } finally {
    clearTimeout(timer);
  }
}

export async function post<T>(path: string, body: unknown, query: Query = {}, signal?: AbortSignal): Promise<T> {
  return (await answer(await send(address(path, query), changing("POST", body, signal)))) as T;
}

export async function put<T>(path: string, body: unknown): Promise<T> {
  return (await answer(await send(address(path), changing("PUT", body)))) as T;
}

export async function remove(path: string): Promise<void> {
  await send(address(path), changing("DELETE", undefined));
}

/** The lines of a streamed NDJSON answer, as they arrive. */
export async function* postLines<T>(path: string, body: unknown, signal?: AbortSignal): AsyncGenerator<T> {
  const response = await send(address(path), changing("POST", body, signal));
  for await (const line of lines(response)) if (line.trim()) yield JSON.parse(line) as T;
}

export async function send(url: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { credentials: "same-origin", ...init });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    connection.report("unreachable");
    throw new ApiError(0, "Unreachable", "The server does not answer.");
  }
  if (response.ok) {
    connection.report("ok");
    return response;
  }
  const refused = await refusal(response);
  if (refused.status === 401 && refused.code === "NoSession") connection.report("no-session");
  else if (refused.status < 500) connection.report("ok");
  throw refused;
}

export function changing(method: string, body: unknown, signal?: AbortSignal): RequestInit {
  const headers = { "Content-Type": "application/json", "X-OT-CSRF": "1" };
  return { method, headers, body: body === undefined ? null : JSON.stringify(body), signal };
}

async function answer(response: Response): Promise<unknown> {
  const text = await response.text();
  if (!text) return null;
  try {
    return JSON.parse(text);
  } catch {
    const found = response.headers.get("content-type") ?? "no content type";
    throw new ApiError(response.status, "InvalidAnswer", `The answer is not JSON but ${found}.`);
  }
}

async function refusal(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => "");
  try {
    const { code, error, requestId } = JSON.parse(text);
    return new ApiError(response.status, code ?? "Error", error ?? response.statusText, requestId ?? null);
  } catch {
    return new ApiError(response.status, `HTTP ${response.status}`, text.slice(0, 200) || response.statusText);
  }
}

export async function* lines(response: Response): AsyncGenerator<string> {
  if (!response.body) return;
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += decoder.decode(value, { stream: !done });
      const whole = rest.split(/\r?\n/);
      rest = whole.pop() ?? "";
      yield* whole;
      if (done) break;
    }
    if (rest) yield rest;
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
