{{- define "ztunnel.labels" -}}
app: ztunnel
app.kubernetes.io/name: ztunnel
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: ambit
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- define "ztunnel.image" -}}
{{- if contains "/" .Values.image }}{{ .Values.image }}{{ else -}}
{{ .Values.hub | default .Values.global.hub }}/{{ .Values.image }}:{{ .Values.tag | default .Values.global.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}
{{- /* Containers may not enter others' namespaces there, but those of this type. */}}
{{- define "ztunnel.selinux" -}}
{{- toYaml (.Values.seLinuxOptions | default (ternary (dict "type" "spc_t") dict (eq .Values.global.platform "openshift"))) }}
{{- end }}
{{- /* An address as given, where none of a scheme is said with the one that it is spoken to by. */}}
{{- define "ztunnel.address" -}}
{{- $given := index . 1 -}}
{{- if not $given }}{{ include "ztunnel.plane" (index . 0) }}
{{- else if contains "://" $given }}{{ $given }}
{{- else }}https://{{ $given }}{{ end -}}
{{- end }}
{{- define "ztunnel.plane" -}}
{{- $namespace := .Values.istioNamespace | default .Values.global.istioNamespace | default .Release.Namespace -}}
https://istiod{{ with .Values.revision }}-{{ . }}{{ end }}.{{ $namespace }}.svc:15012
{{- end }}
