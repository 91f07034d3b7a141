import { act, renderHook } from "@testing-library/react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { useCall } from "../src/api/useCall";

/** Times at which calls began. */
let calls: number[] = [];

/** A call that takes 3 s and answers with its number. */
function slowly(): Promise<number> {
  const number = calls.push(Date.now());
  return new Promise((resolve) => setTimeout(() => resolve(number), 3_000));
}

/** React draws at the end of each `act`. */
async function advance(seconds: number): Promise<void> {
  for (let second = 0; second < seconds; second += 1) await act(() => vi.advanceTimersByTimeAsync(1_000));
}

function see(state: DocumentVisibilityState): void {
  vi.spyOn(document, "visibilityState", "get").mockReturnValue(state);
  document.dispatchEvent(new Event("visibilitychange"));
}

beforeEach(() => {
  calls = [];
  vi.useFakeTimers({ now: 0 });
});

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

test("a call is repeated an interval after its answer", async () => {
  const { result } = renderHook(() => useCall(slowly, [], 1_000));
  await advance(9);
  expect(calls).toEqual([0, 4_000, 8_000]);
  expect(result.current.data).toBe(2);
});

test("a final answer ends the repetition", async () => {
  renderHook(() => useCall(slowly, [], 1_000, (number) => number === 2));
  await advance(60);
  expect(calls).toHaveLength(2);
});

test("a hidden page repeats no call until it is visible", async () => {
  renderHook(() => useCall(slowly, [], 1_000));
  see("hidden");
  await advance(60);
  expect(calls).toHaveLength(1);
  await act(async () => see("visible"));
  expect(calls).toHaveLength(2);
});
