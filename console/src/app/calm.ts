import { useEffect, useState } from "react";

/** A value once it has not changed for some milliseconds. */
export function useCalm(value: string, milliseconds: number): string {
  const [calm, setCalm] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setCalm(value), milliseconds);
    return () => clearTimeout(timer);
  }, [value]);
  return calm;
}
