{{/* What all pods have in common: the `restricted` security, settings, probes, spreading. */}}

{{- define "passerby.podSecurity" -}}
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
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
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
{{ $prefix }}_METRICS_PORT: {{ ternary "9090" "0" .root.Values.monitoring.enabled | quote }}
{{ $prefix }}_DRAIN_S: {{ (index .root.Values .component).drainSeconds | quote }}
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
      key: password
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
{{- with .Values.s3.secret }}
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
{{- with .Values.externalMilvus.secret }}
- name: MILVUS_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: token
{{- end }}
{{- if include "passerby.usesS3" . }}
{{ include "passerby.s3Env" . }}
{{- end }}
{{- end }}

{{/* Whether indexer and query may have to reach S3: for kept images, or images by uri. */}}
{{- define "passerby.usesS3" -}}
{{- if or (eq .Values.images.store "s3") (contains "s3://" (dig "INDEXER_ALLOWED_ROOTS" "" .Values.indexer.settings)) -}}
true
{{- end }}
{{- end }}

{{/* `live` answers as long as the process can answer at all, so that a busy pod or one that waits
for Milvus is not killed; readiness is the whole service's own verdict. */}}
{{- define "passerby.probes" -}}
startupProbe:
  grpc: {port: {{ . }}, service: live}
  periodSeconds: 3
  timeoutSeconds: 3
  failureThreshold: 200
readinessProbe:
  grpc: {port: {{ . }}}
  periodSeconds: 3
  timeoutSeconds: 3
livenessProbe:
  grpc: {port: {{ . }}, service: live}
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

{{/* preStop, the drain itself, and a margin to exit. */}}
{{- define "passerby.gracePeriod" -}}
terminationGracePeriodSeconds: {{ add .drainSeconds 10 }}
{{- end }}

{{- define "passerby.spread" -}}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "passerby.selectorLabels" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}

{{/* A volume that one node at a time can mount keeps its pods together. */}}
{{- define "passerby.imagesAffinity" -}}
{{- if and (eq .Values.images.store "claim") (eq .Values.images.claim.accessMode "ReadWriteOnce") }}
affinity:
  podAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            app.kubernetes.io/instance: {{ .Release.Name }}
            passerby/images: mounted
{{- end }}
{{- end }}

{{- define "passerby.imagesLabel" -}}
{{- if eq .Values.images.store "claim" }}
passerby/images: mounted
{{- end }}
{{- end }}
