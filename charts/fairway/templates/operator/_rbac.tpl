{{/* What the operator may do where the resources are. */}}
{{- define "fairway.operator.rules" -}}
- apiGroups: [fairway.dev]
  resources: [mcpservers, mcpapikeys, mcppolicies]
  verbs: [get, list, watch]
- apiGroups: [fairway.dev]
  resources: [mcpservers/status, mcpapikeys/status, mcppolicies/status]
  verbs: [patch]
# Credentials and certificates of servers, keys that users bring; and the Secrets of keys it mints.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch]
# What a server with `workload` consists of.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# Why a server is not available.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{- define "fairway.operator.subjects" }}
subjects:
- kind: ServiceAccount
  name: {{ .Release.Name }}-operator
  namespace: {{ .Release.Namespace }}
{{- end }}

{{/* A RoleBinding of the operator. Takes (dict "root" $ "role" NAME "namespace" NAME). */}}
{{- define "fairway.operator.binding" }}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .role }}
  namespace: {{ .namespace }}
  labels:
    {{- include "fairway.labels" (dict "root" .root "component" "operator") | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ .role }}
{{- template "fairway.operator.subjects" .root }}
{{- end }}
