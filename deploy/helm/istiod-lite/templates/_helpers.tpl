{{- define "istiod.suffix" -}}
{{- with .Values.revision }}-{{ . }}{{ end -}}
{{- end }}
{{- define "istiod.name" -}}
istiod{{ include "istiod.suffix" . }}
{{- end }}
{{- define "istiod.namespace" -}}
{{ .Values.global.istioNamespace | default .Release.Namespace }}
{{- end }}
{{- /* Objects of the whole cluster hold the namespace in their name, so that two meshes do not share them. */}}
{{- define "istiod.wide" -}}
istiod-lite{{ include "istiod.suffix" . }}-{{ include "istiod.namespace" . }}
{{- end }}
{{- define "istiod.validator" -}}
istio-validator{{ include "istiod.suffix" . }}-{{ include "istiod.namespace" . }}
{{- end }}
{{- define "istiod.selector" -}}
app: istiod
istio.io/rev: {{ .Values.revision | default "default" }}
{{- end }}
{{- define "istiod.labels" -}}
{{ include "istiod.selector" . }}
app.kubernetes.io/name: istiod-lite
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: ambit
{{- end }}
{{- define "istiod.image" -}}
{{- if contains "/" .Values.image }}{{ .Values.image }}{{ else -}}
{{ .Values.hub | default .Values.global.hub }}/{{ .Values.image }}:{{ .Values.tag | default .Values.global.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- /* The image of the waypoints that are deployed for gateways. */}}
{{- define "istiod.waypoint" -}}
{{- if contains "/" .Values.waypointImage }}{{ .Values.waypointImage }}{{ else -}}
{{ .Values.hub | default .Values.global.hub }}/{{ .Values.waypointImage }}:{{ .Values.tag | default .Values.global.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- /* What their pods have in common, in a pod's own words. */}}
{{- define "istiod.waypointPod" -}}
{{- $pod := dict "imagePullPolicy" (.Values.imagePullPolicy | default .Values.global.imagePullPolicy) }}
{{- $secrets := list }}
{{- range concat .Values.imagePullSecrets .Values.global.imagePullSecrets }}
{{- $secrets = append $secrets (dict "name" .) }}
{{- end }}
{{- if $secrets }}{{ $_ := set $pod "imagePullSecrets" $secrets }}{{ end }}
{{- merge (deepCopy (.Values.global.waypoint | default dict)) $pod | toJson }}
{{- end }}
