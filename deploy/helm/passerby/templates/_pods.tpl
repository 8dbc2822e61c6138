{{/* What all pods have in common: the `restricted` security, settings, probes, spreading. */}}

{{/* What a pod of a component is beside its containers and volumes: who it is, where it may run, and
when it goes. The component's own values say the rest. */}}
{{- define "passerby.pod" -}}
{{- $root := .root -}}
{{- $values := index $root.Values .component -}}
serviceAccountName: {{ include "passerby.componentName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- $secrets := $root.Values.imagePullSecrets }}
{{- range $root.Values.image.pullSecrets }}{{ $secrets = append $secrets (dict "name" .) }}{{ end }}
{{- with $secrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $grace := $values.terminationGracePeriodSeconds }}
{{- with $values.drainSeconds }}{{ $grace = add . 10 }}{{ end }}
{{- with $grace }}
terminationGracePeriodSeconds: {{ . }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with include "passerby.nodeSelector" . | fromYaml }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "passerby.tolerations" . | fromYamlArray }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "passerby.affinity" . | fromYaml }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- include "passerby.spread" . }}
{{- $first := list }}
{{- if and (eq .component "embedder") (eq $values.model.source "s3") }}
{{- $first = include "passerby.fetchModel" $root | fromYamlArray }}
{{- end }}
{{- with concat $first ($values.extraInitContainers | default list) }}
initContainers:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What the values add to a list, if they do: (list VALUE INDENTATION). */}}
{{- define "passerby.extra" -}}
{{- if index . 0 }}{{ toYaml (index . 0) | nindent (int (index . 1)) }}{{ end }}
{{- end }}

{{/* Labels and annotations of a pod; `checksum`: of its settings, so that it restarts with them. */}}
{{- define "passerby.podMetadata" -}}
labels:
  {{- include "passerby.podLabels" . | nindent 2 }}
{{- $ours := dict }}
{{- with .checksum }}{{ $ours = dict "checksum/settings" . }}{{ end }}
{{- with merge $ours ((index .root.Values .component).podAnnotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "passerby.nodeSelector" -}}
{{- $values := index .root.Values .component -}}
{{- $old := and $values.gpu (and $values.gpu.enabled $values.gpu.nodeSelector) -}}
{{ $old | default $values.nodeSelector | toYaml }}
{{- end }}

{{- define "passerby.tolerations" -}}
{{- $values := index .root.Values .component -}}
{{- $tolerations := $values.tolerations | default list -}}
{{- if and $values.gpu $values.gpu.enabled }}
{{- $gpu := dict "key" "nvidia.com/gpu" "operator" "Exists" "effect" "NoSchedule" }}
{{- $tolerations = concat ($values.gpu.tolerations | default (list $gpu)) $tolerations }}
{{- end }}
{{- if not (kindIs "invalid" $values.tolerationSeconds) }}
{{- range list "not-ready" "unreachable" }}
{{- $lost := dict "key" (printf "node.kubernetes.io/%s" .) "operator" "Exists" "effect" "NoExecute" }}
{{- $tolerations = append $tolerations (set $lost "tolerationSeconds" (int $values.tolerationSeconds)) }}
{{- end }}
{{- end }}
{{- toYaml $tolerations }}
{{- end }}

{{/* A volume that one node at a time can mount keeps its pods together. */}}
{{- define "passerby.affinity" -}}
{{- $affinity := deepCopy ((index .root.Values .component).affinity | default dict) -}}
{{- if and (include "passerby.imagesOnOneNode" .root) (has .component (list "indexer" "query")) }}
{{- $required := "requiredDuringSchedulingIgnoredDuringExecution" }}
{{- $labels := dict "app.kubernetes.io/instance" .root.Release.Name "passerby/images" "mounted" }}
{{- $ours := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" $labels) }}
{{- $near := $affinity.podAffinity | default dict }}
{{- $near = set $near $required (append (index $near $required | default list) $ours) }}
{{- $affinity = set $affinity "podAffinity" $near }}
{{- end }}
{{- toYaml $affinity }}
{{- end }}

{{/* Over zones and nodes where possible, unless the values say otherwise; an entry without a
labelSelector means the component's own pods. */}}
{{- define "passerby.spread" -}}
{{- $values := index .root.Values .component -}}
{{- $labels := include "passerby.selectorLabels" . | fromYaml -}}
{{- $entries := list -}}
{{- range $values.topologySpreadConstraints }}
{{- $own := dict "labelSelector" (dict "matchLabels" $labels) }}
{{- if hasKey $values "replicas" }}{{ $own = set $own "matchLabelKeys" (list "pod-template-hash") }}{{ end }}
{{- $entries = append $entries (hasKey . "labelSelector" | ternary . (merge (deepCopy .) $own)) }}
{{- end }}
{{- if and (not $entries) (hasKey $values "replicas") }}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
{{- $entry := dict "maxSkew" 1 "topologyKey" . "whenUnsatisfiable" "ScheduleAnyway" }}
{{- $entry = merge $entry (dict "labelSelector" (dict "matchLabels" $labels)) }}
{{- $entries = append $entries (set $entry "matchLabelKeys" (list "pod-template-hash")) }}
{{- end }}
{{- end }}
{{- with $entries }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What every container has: the security, and its last words where `kubectl describe` shows them. */}}
{{- define "passerby.container" -}}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* ConfigMap entries of a map of settings: a string as it is, anything else as JSON, which is how
the services read numbers, booleans and maps (and a float never turns into 1e+06). */}}
{{- define "passerby.settings" -}}
{{- range $variable, $value := . }}
{{ $variable }}: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- end }}

{{/* The settings that every service gets from the chart. */}}
{{- define "passerby.commonSettings" -}}
{{- $prefix := upper .component -}}
{{ $prefix }}_HOST: "0.0.0.0"
{{ $prefix }}_PORT: {{ .port | quote }}
{{ $prefix }}_METRICS_PORT: "9090"
{{ $prefix }}_DRAIN_S: {{ include "passerby.drainSeconds" . | quote }}
{{- with .root.Values.tracing.endpoint }}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ . | quote }}
{{- end }}
{{- include "passerby.settings" .root.Values.settings }}
{{- end }}

{{/* What indexer and query are told about the others. */}}
{{- define "passerby.gallerySettings" -}}
EMBEDDER_ADDRESS: {{ include "passerby.embedderAddress" . }}
MILVUS_URI: {{ include "passerby.milvusUri" . }}
IMAGES_URI: {{ include "passerby.imagesUri" . | quote }}
{{- include "passerby.settings" .Values.gallery.settings }}
{{- end }}

{{- define "passerby.redisEnv" -}}
{{- with include "passerby.redisSecret" . }}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ include "passerby.redisSecretKey" $ }}
{{- end }}
- name: REDIS_URL
  value: {{ include "passerby.redisUrl" . | quote }}
{{- end }}

{{- define "passerby.s3Env" -}}
- name: AWS_REGION
  value: {{ .Values.s3.region | quote }}
{{- with .Values.s3.endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.s3.secret | default .Values.s3.existingSecret }}
{{- $secret := . }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Secrets of indexer and query: a password or token is in the environment only. */}}
{{- define "passerby.galleryEnv" -}}
{{ include "passerby.redisEnv" . }}
{{- with .Values.externalMilvus.secret | default .Values.externalMilvus.existingSecret }}
- name: MILVUS_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $.Values.externalMilvus.existingSecretTokenKey }}
{{- end }}
{{- if include "passerby.usesS3" . }}
{{ include "passerby.s3Env" . }}
{{- end }}
{{- end }}

{{/* Whether indexer and query may have to reach S3: for kept images, or images by uri. */}}
{{- define "passerby.usesS3" -}}
{{- if or (eq .Values.images.store "s3") (contains "s3://" (dig "INDEXER_ALLOWED_ROOTS" "" (.Values.indexer.settings | default dict))) -}}
true
{{- end }}
{{- end }}

{{/* On the private port, which no flood of requests reaches. /healthz answers as long as the process
can answer at all, so that a busy pod or one that waits for Milvus is not killed; readiness is the whole
service's own verdict. */}}
{{- define "passerby.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: private}
  periodSeconds: 3
  timeoutSeconds: 3
  failureThreshold: 200
readinessProbe:
  httpGet: {path: /readyz, port: private}
  periodSeconds: 3
  timeoutSeconds: 3
livenessProbe:
  httpGet: {path: /healthz, port: private}
  periodSeconds: 15
  timeoutSeconds: 10
  failureThreshold: 4
{{- end }}

{{/* Endpoints are withdrawn while the pod sleeps, so that no new request reaches one that drains. */}}
{{- define "passerby.preStop" -}}
lifecycle:
  preStop:
    sleep: {seconds: 5}
{{- end }}

{{/* Seconds that requests in progress may take: what preStop and a margin to exit leave of the grace
period. */}}
{{- define "passerby.drainSeconds" -}}
{{- $values := index .root.Values .component -}}
{{ $values.drainSeconds | default (sub $values.terminationGracePeriodSeconds 10) }}
{{- end }}

{{/* Whether one node at a time can mount the images. */}}
{{- define "passerby.imagesOnOneNode" -}}
{{- if and (eq .Values.images.store "claim") (eq .Values.images.claim.accessMode "ReadWriteOnce") -}}
true
{{- end }}
{{- end }}

{{/* With autoscaling, as many pods as run: Kubernetes would keep only one of them if the number went
from the Deployment. Without a cluster to ask, or before the first install, the smallest number. KEDA
starts a Deployment that has no pods, a HorizontalPodAutoscaler leaves it so. */}}
{{- define "passerby.replicas" -}}
{{- $values := index .root.Values .component -}}
{{- $replicas := $values.replicas -}}
{{- if $values.autoscaling.enabled }}
{{- $live := lookup "apps/v1" "Deployment" .root.Release.Namespace (include "passerby.componentName" .) }}
{{- $replicas = dig "spec" "replicas" $values.autoscaling.minReplicas $live }}
{{- if ne .component "indexer" }}{{ $replicas = $replicas | default $values.autoscaling.minReplicas }}{{ end }}
{{- end -}}
replicas: {{ $replicas }}
{{- end }}
