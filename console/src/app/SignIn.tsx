import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import Form from "@cloudscape-design/components/form";
import FormField from "@cloudscape-design/components/form-field";
import Header from "@cloudscape-design/components/header";
import Input from "@cloudscape-design/components/input";
import SpaceBetween from "@cloudscape-design/components/space-between";
import { type ReactNode, useState } from "react";
import { address, type ApiError, changing, get, post, send } from "../api/client";
import { asApiError, useCall } from "../api/useCall";
import { visible } from "../text/visible";

const MIN_LENGTH = 12;

/** Name and password; after the one-time password, the user's own one twice. */
export default function SignIn({ onSignedIn }: { onSignedIn: () => void }): ReactNode {
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [mustChange, setMustChange] = useState(false);
  const [own, setOwn] = useState({ once: "", again: "" });
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  const ways = useCall((signal) => get<{ oidc: boolean }>("login", {}, signal), []);
  const leave = (): void => {
    setError(null);
    send(address("oidc"), changing("POST", {}))
      .then((answer) => answer.text())
      .then(
        (url) => window.location.assign(url),
        (failure) => setError(asApiError(failure)),
      );
  };
  const isShort = mustChange && own.once.length < MIN_LENGTH;
  const differs = mustChange && own.once !== own.again;
  const signIn = (): void => {
    setBusy(true);
    setError(null);
    post("login", { name, password, ...(mustChange ? { newPassword: own.once } : {}) })
      .then(onSignedIn, (failure) => {
        const refused = asApiError(failure);
        if (refused.code === "PasswordChangeNeeded") setMustChange(true);
        else setError(refused);
      })
      .finally(() => setBusy(false));
  };
  return (
    <form
      method="post"
      onSubmit={(event) => {
        event.preventDefault();
        if (!busy && name && password && !isShort && !differs) signIn();
      }}
    >
      <Container header={<Header variant="h2">{mustChange ? "Choose a password" : "Sign in"}</Header>}>
        <Form
          secondaryActions={
            ways.data?.oidc &&
            !mustChange && (
              <Button formAction="none" onClick={leave}>
                Sign in with single sign-on
              </Button>
            )
          }
          actions={
            <Button variant="primary" formAction="submit" loading={busy} disabled={mustChange && (isShort || differs)}>
              {mustChange ? "Change password and sign in" : "Sign in"}
            </Button>
          }
        >
          <SpaceBetween size="m">
            {mustChange ? (
              <SpaceBetween key="change" size="m">
                <Box>That was a one-time password. Choose one that only you know, {visible(name)}.</Box>
                <FormField label="New password" constraintText={`At least ${MIN_LENGTH} characters.`}>
                  <Input type="password" autoFocus autoComplete="new-password" value={own.once} onChange={({ detail }) => setOwn({ ...own, once: detail.value })} />
                </FormField>
                <FormField label="New password again" errorText={own.again && differs ? "The two differ." : undefined}>
                  <Input type="password" autoComplete="new-password" value={own.again} onChange={({ detail }) => setOwn({ ...own, again: detail.value })} />
                </FormField>
              </SpaceBetween>
            ) : (
              <SpaceBetween key="sign-in" size="m">
                <FormField label="User name">
                  <Input autoFocus autoComplete="username" spellcheck={false} value={name} onChange={({ detail }) => setName(detail.value)} />
                </FormField>
                <FormField label="Password">
                  <Input type="password" autoComplete="current-password" value={password} onChange={({ detail }) => setPassword(detail.value)} />
                </FormField>
              </SpaceBetween>
            )}
            <div aria-live="polite">{error && <Alert type="error">{visible(error.message)}</Alert>}</div>
          </SpaceBetween>
        </Form>
      </Container>
    </form>
  );
}
