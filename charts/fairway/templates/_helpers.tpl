{{/* Labels of every object. Takes (dict "root" $ "component" NAME). */}}
{{- define "fairway.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name (.root.Chart.Version | replace "+" "_") }}
{{ include "fairway.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* Labels by which pods are found. They never change: selectors of Deployments can't. */}}
{{- define "fairway.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "fairway.entriesNamespace" -}}
{{- $name := .Values.entriesNamespace | default (printf "%s-entries" .Release.Name) }}
{{- if eq $name .Release.Namespace }}
{{- fail (printf "entriesNamespace must not be the release's own namespace, %s: gateways may read every Secret in it; choose another name" $name) }}
{{- end }}
{{- $name }}
{{- end }}

{{/* Where clients reach the gateway from outside; empty when nobody has said. */}}
{{- define "fairway.publicUrl" -}}
{{- if .Values.config.publicUrl }}
{{- .Values.config.publicUrl }}
{{- else if and .Values.ingress.enabled .Values.ingress.host }}
{{- printf "%s://%s" (ternary "https" "http" .Values.ingress.tls.enabled) .Values.ingress.host }}
{{- end }}
{{- end }}

{{/* Takes (dict "root" $ "image" IMAGE). */}}
{{- define "fairway.image" -}}
{{- $tag := .image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- with .image.registry | default .root.Values.image.registry }}{{ . }}/{{ end }}
{{- .image.repository }}{{ ternary "@" ":" (hasPrefix "sha256:" $tag) }}{{ $tag }}
{{- end }}

{{/* The restricted Pod Security profile. 65532 is the user of the images. */}}
{{- define "fairway.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "fairway.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where pods of a component run and their images come from, as lines of a pod's spec in a
     Deployment. Takes (dict "root" $ "values" VALUES). */}}
{{- define "fairway.placement" }}
{{- with .root.Values.image.pullSecrets }}
      imagePullSecrets:
      {{- range . }}
      - name: {{ . }}
      {{- end }}
{{- end }}
{{- with .values.priorityClassName }}
      priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
{{- end }}
{{- with .values.tolerations }}
      tolerations:
      {{- toYaml . | nindent 6 }}
{{- end }}
{{- with .values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
{{- end }}
{{- end }}

{{/* Metadata of a component's pods. Takes (dict "root" $ "component" NAME "values" VALUES). The
     version is not among the labels, so that a new chart alone restarts nothing. */}}
{{- define "fairway.podMetadata" -}}
labels:
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- include "fairway.selectorLabels" . | nindent 2 }}
{{- with .values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "fairway.demoNamespace" -}}
{{- $name := .Values.demo.namespace | default .Release.Namespace }}
{{- $watched := .Values.operator.watchNamespaces }}
{{- if and $watched (not (has $name $watched)) }}
{{- fail (printf "the demo is in the namespace %s, which is not in operator.watchNamespaces; add it there or set demo.namespace" $name) }}
{{- end }}
{{- if eq $name (include "fairway.entriesNamespace" .) }}
{{- fail "demo.namespace must not be the entries namespace; choose another one" }}
{{- end }}
{{- $name }}
{{- end }}

{{/* The SQL server's name says which database it has. */}}
{{- define "fairway.demoDatabase" -}}
{{- $postgres := .Values.demo.postgres }}
{{- ternary "postgres" "database" (or $postgres.existingSecret.name $postgres.url | empty | not) }}
{{- end }}
