import { type DependencyList, useCallback, useEffect, useState, useSyncExternalStore } from "react";
import { ApiError, connection } from "./client";

export interface Call<T> {
  /** The newest answer; it remains while the next one loads or fails. */
  data: T | null;
  error: ApiError | null;
  loading: boolean;
  reload: () => void;
}

/**
 * Calls the server when its dependencies change and after an outage, and cancels superseded calls.
 * With `interval`, it repeats the call that many milliseconds after each answer, until an answer is final.
 * A hidden page pauses.
 */
export function useCall<T>(
  call: ((signal: AbortSignal) => Promise<T>) | null,
  dependencies: DependencyList,
  interval: number | null = null,
  isFinal: (data: T) => boolean = () => false,
): Call<T> {
  const [state, setState] = useState<{ data: T | null; error: ApiError | null; loading: boolean }>({
    data: null,
    error: null,
    loading: call !== null,
  });
  const [attempt, setAttempt] = useState(0);
  const returns = useSyncExternalStore(connection.subscribe, connection.returns);

  useEffect(() => {
    if (call === null) {
      setState({ data: null, error: null, loading: false });
      return undefined;
    }
    const abort = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    call(abort.signal).then(
      (data) => {
        if (abort.signal.aborted) return;
        setState({ data, error: null, loading: false });
      },
      (error: unknown) => {
        if (abort.signal.aborted) return;
        setState((before) => ({ ...before, error: asApiError(error), loading: false }));
      },
    );
    return () => abort.abort();
    // The caller lists the dependencies of its call.
  }, [...dependencies, attempt, returns]);

  const reload = useCallback(() => setAttempt((before) => before + 1), []);
  const isRepeated = call !== null && interval !== null && !(state.data !== null && isFinal(state.data));
  useEffect(() => {
    if (!isRepeated || state.loading) return undefined;
    const timer = setTimeout(() => {
      if (document.visibilityState === "visible") reload();
      else document.addEventListener("visibilitychange", reload, { once: true });
    }, interval);
    return () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", reload);
    };
  }, [isRepeated, interval, state]);

  return { ...state, reload };
}

export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  return new ApiError(0, "Error", error instanceof Error ? error.message : String(error));
}
