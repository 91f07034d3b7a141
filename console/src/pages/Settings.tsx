import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import FormField from "@cloudscape-design/components/form-field";
import Header from "@cloudscape-design/components/header";
import Input from "@cloudscape-design/components/input";
import KeyValuePairs from "@cloudscape-design/components/key-value-pairs";
import Link from "@cloudscape-design/components/link";
import RadioGroup from "@cloudscape-design/components/radio-group";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Toggle from "@cloudscape-design/components/toggle";
import { type ReactNode, useState } from "react";
import { type ApiError, connection, post, remove } from "../api/client";
import { asApiError } from "../api/useCall";
import { setPreferences, usePreferences } from "../app/preferences";
import { useSession } from "../app/session";
import { Problem } from "../parts/Problem";
import { browserZone, isZone, stamp, UTC, zoneName } from "../text/time";
import { visible } from "../text/visible";

export default function Settings(): ReactNode {
  const session = useSession();
  const chosen = usePreferences();
  return (
    <SpaceBetween size="l">
      <Header variant="h1" description="They apply to this browser; nobody else sees them.">
        Settings
      </Header>
      <Container header={<Header variant="h2">Display</Header>}>
        <SpaceBetween size="l">
          <ZoneField />
          <FormField label="Theme">
            <RadioGroup
              value={chosen.theme}
              items={[
                { value: "system", label: "As the system" },
                { value: "light", label: "Light" },
                { value: "dark", label: "Dark" },
              ]}
              onChange={({ detail }) => setPreferences({ theme: detail.value as "system" })}
            />
          </FormField>
          <Toggle checked={chosen.density === "compact"} onChange={({ detail }) => setPreferences({ density: detail.checked ? "compact" : "comfortable" })}>
            Compact rows
          </Toggle>
          <Toggle checked={chosen.keys} onChange={({ detail }) => setPreferences({ keys: detail.checked })}>
            Single-key shortcuts (press ? for a list)
          </Toggle>
        </SpaceBetween>
      </Container>
      <Container header={<Header variant="h2">Session</Header>}>
        <SpaceBetween size="m">
          <KeyValuePairs
            columns={4}
            items={[
              { label: "User", value: `${visible(session.user)} (${session.role})` },
              { label: `Expires (${zoneName(chosen.zone)})`, value: stamp(session.expires, chosen.zone) },
              { label: "Accounts", value: session.accounts.map(visible).join(", ") || "none yet" },
              { label: "opentrail", value: session.version },
            ]}
          />
          <Button onClick={() => void remove("session").then(() => connection.report("no-session"), () => undefined)}>Sign out</Button>
        </SpaceBetween>
      </Container>
      {session.hasPassword && <ChangePassword />}
      <Box color="text-body-secondary">
        The server's settings are flags of <Box variant="code">opentrail serve</Box>. Licences of the packages that this console
        contains: <Link href="/console/THIRD_PARTY_LICENSES.txt">THIRD_PARTY_LICENSES.txt</Link>.
      </Box>
    </SpaceBetween>
  );
}

function ChangePassword(): ReactNode {
  const none = { password: "", newPassword: "", again: "" };
  const [given, setGiven] = useState(none);
  const [error, setError] = useState<ApiError | null>(null);
  const [done, setDone] = useState(false);
  const differs = given.newPassword !== given.again;
  const change = (): void => {
    setError(null);
    setDone(false);
    post("password", { password: given.password, newPassword: given.newPassword }).then(
      () => (setGiven(none), setDone(true)),
      (failure) => setError(asApiError(failure)),
    );
  };
  const field = (name: keyof typeof none, label: string, problem?: string): ReactNode => (
    <FormField label={label} errorText={problem}>
      <Input type="password" autoComplete={name === "password" ? "current-password" : "new-password"} value={given[name]} onChange={({ detail }) => setGiven({ ...given, [name]: detail.value })} />
    </FormField>
  );
  return (
    <Container header={<Header variant="h2">Password</Header>}>
      <form onSubmit={(event) => (event.preventDefault(), change())}>
        <SpaceBetween size="m">
          {field("password", "Present password")}
          {field("newPassword", "New password")}
          {field("again", "New password again", given.again && differs ? "The two differ." : undefined)}
          <Button formAction="submit" disabled={!given.password || !given.newPassword || differs}>
            Change password
          </Button>
          <Problem error={error} what="The password was not changed" />
          <div aria-live="polite">{done && <Box color="text-status-success">The password was changed; other browsers are signed out.</Box>}</div>
        </SpaceBetween>
      </form>
    </Container>
  );
}

function ZoneField(): ReactNode {
  const { zone } = usePreferences();
  const local = browserZone();
  const kind = zone === UTC ? "utc" : zone === local ? "browser" : "other";
  const [other, setOther] = useState(kind === "other" ? zone : "");
  const [chosen, setChosen] = useState<string>(kind);
  return (
    <FormField label="Time zone" description="Exports and the search language are always in UTC.">
      <SpaceBetween size="xs">
        <RadioGroup
          value={chosen}
          ariaLabel="Time zone"
          onChange={({ detail }) => {
            setChosen(detail.value);
            if (detail.value === "utc") setPreferences({ zone: UTC });
            if (detail.value === "browser") setPreferences({ zone: local });
          }}
          items={[
            { value: "utc", label: "UTC" },
            { value: "browser", label: `This browser's: ${zoneName(local)}` },
            { value: "other", label: "Another one" },
          ]}
        />
        {chosen === "other" && (
          <FormField label="Name of the zone" errorText={other && !isZone(other) ? "There is no such time zone; an example is Europe/Berlin." : undefined}>
            <Input
              value={other}
              placeholder="Europe/Berlin"
              onChange={({ detail }) => {
                setOther(detail.value);
                if (detail.value && isZone(detail.value)) setPreferences({ zone: detail.value });
              }}
            />
          </FormField>
        )}
      </SpaceBetween>
    </FormField>
  );
}
