import { type ReactNode, useState } from "react";
import { type ApiError, post } from "../api/client";
import type { Detection } from "../api/types";
import { asApiError } from "../api/useCall";
import { visible } from "../text/visible";
import { Dialog } from "./Dialog";
import { Problem } from "./Problem";

interface Switch {
  set: (rule: Detection, enabled: boolean) => void;
  /** The rule that is being changed. */
  pending: string | null;
  dialog: ReactNode;
  problem: ReactNode;
}

/** Enables starter rules and disables rules; asks before removing a rule that the server cannot restore. */
export function useSwitch(onChanged: () => void): Switch {
  const [asking, setAsking] = useState<Detection | null>(null);
  const [pending, setPending] = useState<string | null>(null);
  const [failure, setFailure] = useState<ApiError | null>(null);
  const change = (name: string, enabled: boolean): void => {
    setAsking(null);
    setFailure(null);
    setPending(name);
    (enabled ? post("detections", { starter: name }) : post("detections/disable", { name }))
      .then(onChanged, (problem) => setFailure(asApiError(problem)))
      .finally(() => setPending(null));
  };
  return {
    pending,
    set: (rule, enabled) => (enabled || rule.starter ? change(rule.name, enabled) : setAsking(rule)),
    problem: <Problem error={failure} what="The rule was not changed" />,
    dialog: asking && (
      <Dialog keep="Keep rule" header={`Disable ${visible(asking.title)}?`} action="Disable and remove" onCancel={() => setAsking(null)} onAction={() => change(asking.name, false)}>
        opentrail keeps a rule of your own only while it is enabled. Copy its YAML first if you have no file of it. Its matches remain.
      </Dialog>
    ),
  };
}
