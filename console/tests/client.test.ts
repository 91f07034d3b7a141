import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ApiError, get, MAX_WAIT } from "../src/api/client";

/** A server that accepts a call and never answers. */
function silence(_url: string, { signal }: RequestInit): Promise<Response> {
  return new Promise((_, reject) => {
    signal?.addEventListener("abort", () => reject(signal.reason as Error));
  });
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("fetch", silence);
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("a call that is not answered is given up", async () => {
  const outcome = get("events").catch((error: unknown) => error);
  await vi.advanceTimersByTimeAsync(MAX_WAIT);
  const error = await outcome;
  expect(error).toBeInstanceOf(ApiError);
  expect(error).toMatchObject({ status: 0, code: "Timeout" });
});

test("a call that its page cancels is not an error of the server", async () => {
  const page = new AbortController();
  const outcome = get("events", {}, page.signal).catch((error: unknown) => error);
  page.abort();
  await vi.advanceTimersByTimeAsync(MAX_WAIT);
  expect(await outcome).not.toBeInstanceOf(ApiError);
});
