import Button from "@cloudscape-design/components/button";
import { type ReactNode, useEffect, useState } from "react";

export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without a secure context there is no clipboard, but the old command works.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "hidden";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

interface Props {
  text: () => string;
  label: string;
  children?: string;
}

/** Copies a string and confirms it. */
export function Copy({ text, label, children }: Props): ReactNode {
  const [done, setDone] = useState<boolean | null>(null);
  useEffect(() => {
    if (done === null) return undefined;
    const timer = setTimeout(() => setDone(null), 2_000);
    return () => clearTimeout(timer);
  }, [done]);
  const shown = done === null ? children : done ? "Copied" : "Copying failed";
  return (
    <>
      <Button
        iconName={done ? "check" : "copy"}
        variant={children ? "normal" : "inline-icon"}
        ariaLabel={children ? undefined : label}
        onClick={() => void copyText(text()).then(setDone)}
      >
        {shown}
      </Button>
      <span className="hidden" aria-live="polite">
        {done ? "Copied" : ""}
      </span>
    </>
  );
}
