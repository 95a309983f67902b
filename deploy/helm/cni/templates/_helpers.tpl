{{- define "cni.labels" -}}
k8s-app: istio-cni-node
app.kubernetes.io/name: istio-cni-node
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: ambit
{{- end }}
{{- define "cni.wide" -}}
istio-cni-{{ .Release.Namespace }}
{{- end }}
{{- define "cni.image" -}}
{{- if contains "/" .Values.image }}{{ .Values.image }}{{ else -}}
{{ .Values.hub | default .Values.global.hub }}/{{ .Values.image }}:{{ .Values.tag | default .Values.global.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}
{{- /* Folders of platforms that have them elsewhere. */}}
{{- define "cni.bin" -}}
{{- $places := dict
  "gke" "/home/kubernetes/bin"
  "k3s" "/var/lib/rancher/k3s/data/cni"
  "k3d" "/bin"
  "microk8s" "/var/snap/microk8s/current/opt/cni/bin"
  "openshift" "/var/lib/cni/bin" }}
{{- .Values.cniBinDir | default (get $places .Values.global.platform) | default "/opt/cni/bin" }}
{{- end }}
{{- define "cni.conf" -}}
{{- $places := dict
  "k3s" "/var/lib/rancher/k3s/agent/etc/cni/net.d"
  "k3d" "/var/lib/rancher/k3s/agent/etc/cni/net.d"
  "microk8s" "/var/snap/microk8s/current/args/cni-network"
  "openshift" "/etc/cni/multus/net.d" }}
{{- .Values.cniConfDir | default (get $places .Values.global.platform) | default "/etc/cni/net.d" }}
{{- end }}
{{- /* There Multus calls each network of its folder by itself: ours is a file of its own, in nobody's list. */}}
{{- define "cni.chained" -}}
{{- if kindIs "bool" .Values.chained }}{{ .Values.chained }}{{ else }}{{ ne .Values.global.platform "openshift" }}{{ end }}
{{- end }}
{{- define "cni.file" -}}
{{- .Values.cniConfFileName | default (ternary "istio-cni.conf" "" (eq .Values.global.platform "openshift")) }}
{{- end }}
{{- /* Containers may not enter others' namespaces there, but those of this type. */}}
{{- define "cni.selinux" -}}
{{- toYaml (.Values.seLinuxOptions | default (ternary (dict "type" "spc_t") dict (eq .Values.global.platform "openshift"))) }}
{{- end }}
{{- define "cni.netns" -}}
{{- $places := dict "minikube" "/var/run/docker/netns" }}
{{- .Values.cniNetnsDir | default (get $places .Values.global.platform) | default "/var/run/netns" }}
{{- end }}
